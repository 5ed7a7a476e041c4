"""From trained adapters to accuracies, features, predictions and rankings. Knows the contract of a method alone."""
