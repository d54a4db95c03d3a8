"""mofa_nb: MOFA-Video (arXiv 2405.20222) step by step, in notebooks."""
