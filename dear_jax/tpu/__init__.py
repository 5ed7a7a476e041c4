"""What a run costs on chips that are not there."""
