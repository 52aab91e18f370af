"""The deployments, and files for containers and Kubernetes; `genebench up` reads `prefect.yaml`."""
