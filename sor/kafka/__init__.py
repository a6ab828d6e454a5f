"""The same over Kafka, on either client."""
