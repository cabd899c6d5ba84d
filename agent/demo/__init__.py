"""`patch-gateway demo` (= make run): broker, emulated patches, gateway and central in one place, on loopback."""
