"""DeAR: attribute tokens, the mask per head, fusion. README.md here is the method's specification."""
