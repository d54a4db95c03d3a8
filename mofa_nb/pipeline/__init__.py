"""From a motion to a clip: the chain, what is kept ready around it, and the files it writes."""
