%dw 2.0
// The same for every try of the same alarm, and for no other: the same request with the same key has one effect.
import toHex from dw::core::Binaries
import hashWith from dw::Crypto
output application/java
---
"mule-" ++ lower(toHex(hashWith(payload.alarm_id as String as Binary {encoding: "UTF-8"}, "SHA-256")))[0 to 39]
