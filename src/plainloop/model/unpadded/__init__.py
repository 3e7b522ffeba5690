"""Forward passes that compute no padding."""
