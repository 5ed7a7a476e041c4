"""Ways to adapt CLIP behind one contract, and what they share."""
