"""The ways into a dataset: a table of importers and the pipeline they share."""
