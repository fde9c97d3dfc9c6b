"""The plugin host: finds plugins, refuses what is wrong with one sentence, and keeps a faulty one from harming others.

Start reading in `loader.py`.
"""
