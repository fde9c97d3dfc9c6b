%dw 2.0
// Whether a webhook was signed by Busbar (Standard Webhooks 1.0), over exactly these bytes, at most five minutes ago.
import HMACBinary from dw::Crypto
import some from dw::core::Arrays
import fromBase64, toBase64, concatWith from dw::core::Binaries
output application/java
var id = attributes.headers."webhook-id" default ""
var timestamp = attributes.headers."webhook-timestamp" default ""
var offered = (attributes.headers."webhook-signature" default "") splitBy " "
var stored = Mule::p("secure::busbar.webhook.secrets") default ""
var secrets = stored splitBy " "

fun bytes(text: String): Binary = text as Binary {encoding: "UTF-8"}
fun signature(secret: String): String =
    "v1," ++ toBase64(HMACBinary(
        fromBase64(secret replace /^whsec_/ with ""),
        // The raw body, for the listener does not parse it: written again by a parser, it would have another signature.
        concatWith(bytes("$(id).$(timestamp)."), payload as Binary),
        "HmacSHA256"
    ))
// Compared by what another key makes of both, so that the time it takes tells nothing of where they differ.
fun same(one: String, other: String): Boolean = blinded(one) == blinded(other)
fun blinded(text: String): String = toBase64(HMACBinary(bytes(stored), bytes(text), "HmacSHA256"))
---
(id matches /[A-Za-z0-9_:\/+=@-]{1,255}/)
    and (timestamp matches /[1-9][0-9]{0,11}/)
    and (abs((now() as Number {unit: "seconds"}) - (timestamp as Number)) <= 300)
    and (secrets some (secret) -> do {
        var expected = signature(secret)
        ---
        offered some (one) -> same(one, expected)
    })
