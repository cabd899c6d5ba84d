"""The data contract: types, events, payloads, envelope, responses, pairing label. Imports nothing of ours."""
