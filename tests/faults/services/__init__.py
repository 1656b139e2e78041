"""AWS in memory: each service answers boto3's calls as far as the code uses them, without faults."""
