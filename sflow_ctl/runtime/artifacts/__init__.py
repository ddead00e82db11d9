"""Fetches what tasks need before the first of them starts: files, snapshots of a hub, images."""
