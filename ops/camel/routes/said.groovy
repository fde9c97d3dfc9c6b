// What went wrong, as the remote says it: ServiceNow's, SAP's and Salesforce's error documents, else how its text begins.
def failure = exception
def text
if (failure.hasProperty('statusCode')) {
    def body = failure.responseBody ?: ''
    def document
    try {
        document = new com.fasterxml.jackson.databind.ObjectMapper().readValue(body, Object)
    } catch (com.fasterxml.jackson.core.JsonProcessingException ignored) {
        document = null
    }
    def found
    if (document instanceof List) {
        found = document.findAll { it instanceof Map }.collect { "${it.errorCode ?: 'error'}: ${it.message}" }.join('; ')
    } else if (document instanceof Map && document.error instanceof Map) {
        def message = document.error.message
        found = [document.error.code, message instanceof Map ? message.value : message, document.error.detail]
                .findAll().join(': ')
    } else if (document instanceof Map && document.error) {
        found = document.error_description ?: document.error
    }
    text = "${failure.statusCode}: ${found ?: body.replaceAll(/<[^>]*>/, ' ') ?: 'empty body'}"
} else {
    text = "${failure.class.simpleName}: ${failure.message}"
}
text.toString().replaceAll(/00D[A-Za-z0-9]{12,15}![A-Za-z0-9._]+/, '[session id]').replaceAll(/\s+/, ' ').take(400)
