"""Dense layers: inputs times a matrix in one of the storages, a bias, an activation."""
