"""From frames to visits: video, links and their scores; no torch."""
