"""Clips of real footage and photographs, gathered from folders."""
