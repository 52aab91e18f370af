"""Gene and Gene Ontology tables included in the package, and the script that extracts them."""
