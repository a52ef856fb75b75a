"""A local NocoDB and Dify with sample conversations, for the demo and the tests; never for production."""
