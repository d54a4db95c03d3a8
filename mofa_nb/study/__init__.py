"""The small experiments of the notebooks: each function measures one thing and returns numbers."""
