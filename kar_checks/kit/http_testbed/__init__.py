"""What the gateway and the routing trial share: class, Gateway, servers, client, counts."""
