"""The embedded world: procedural images with the truth for every attribute.

`scenes` draws what there is to see, `forms` and `render` paint it, `captions` puts it into words, `tasks` makes data
sets of it; `pretraining` serves the pretraining of the embedded CLIP.
"""
