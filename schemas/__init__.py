"""The data contract: shared types, 45 event types, 25 payloads, envelope, responses, pairing label. Imports nothing of ours."""
