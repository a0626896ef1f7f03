"""Bytes from elsewhere, checked before use: HTTP ranges with resume and digest, and a cache named by content.

Agents fetch models and large documents with it; the control plane shares the rules of `origin.py`.
"""
