"""Programs that the tests of S3's clients run in the environment of these clients."""
