"""Procedural demo data and its checker: seeded scenes of coloured shapes, drawn, captioned, edited, broken, judged."""
