"""The frozen CLIP. It knows no method."""
