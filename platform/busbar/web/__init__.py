"""What every HTTP route shares: access, problem documents, validation, limits, pages, versions. Start at `asgi`."""
