"""The bundled world, the model that learned it, and the commands that made both."""
