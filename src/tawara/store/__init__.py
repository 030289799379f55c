"""The service under every protocol: plans, stores, reads, lists and deletes files, and judges conditions."""
