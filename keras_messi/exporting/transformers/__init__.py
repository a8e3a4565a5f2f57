"""What models of transformers are exported through: functions of named inputs."""
