"""A folder of clips: photographs (of its `photos/` alone, if there is one) and videos, in any
subfolder, decoded for training by `footage.bank.load_bank`; scenes and heads that are drawn."""
