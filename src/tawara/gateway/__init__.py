"""The HTTP door: files by domain and key for people and applications, in front of which nginx moves the bytes."""
