"""From an entry of a study to the thing itself, one file a kind."""
