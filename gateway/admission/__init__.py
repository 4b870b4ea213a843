"""Admission of requests: who asks, for which model, and within which limits."""
