"""Why a call was counted, or not: what chose its transform, where each field of its event came from, what it met."""
