"""Faces: 478 landmarks, retargeting, speech, hand-set expressions."""
