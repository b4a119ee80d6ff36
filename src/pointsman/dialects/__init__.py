"""The shapes in which trainers store samples: what a record means is read, or refused by reason."""
