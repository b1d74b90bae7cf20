"""Things to show archiver with: made-up checkpoints, and one small trained model from a package."""
