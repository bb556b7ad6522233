"""How the networks come to be: data loading, model, losses, training, export; no video here."""
