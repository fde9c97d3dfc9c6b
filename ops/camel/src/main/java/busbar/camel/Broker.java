package busbar.camel;

import com.rabbitmq.client.ConnectionFactory;
import java.io.IOException;
import java.io.InputStream;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.KeyStore;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.util.Map;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;
import org.apache.camel.BindToRegistry;
import org.apache.camel.CamelConfiguration;
import org.apache.camel.PropertyInject;
import org.apache.camel.health.HealthCheckResultBuilder;
import org.apache.camel.impl.health.AbstractHealthCheck;
import org.springframework.amqp.AmqpException;
import org.springframework.amqp.rabbit.config.RetryInterceptorBuilder;
import org.springframework.amqp.rabbit.connection.CachingConnectionFactory;
import org.springframework.amqp.rabbit.connection.CachingConnectionFactory.ConfirmType;
import org.springframework.amqp.rabbit.support.ListenerExecutionFailedException;
import org.springframework.retry.interceptor.RetryOperationsInterceptor;
import org.springframework.retry.policy.NeverRetryPolicy;

/** The connection to RabbitMQ, whether it is there, and what becomes of messages that a route fails on. */
public class Broker implements CamelConfiguration {

    private static final int HEARTBEAT_S = 10;
    private static final int CONNECT_MS = 5_000;

    /**
     * The connection that all routes share; publishing waits for the broker's confirmation.
     *
     * @param url amqp:// or amqps://, with user, password and virtual host
     * @param caFile PEM file of the authority to trust for amqps; the Java runtime's own if empty
     */
    @BindToRegistry("broker")
    public CachingConnectionFactory connection(
            @PropertyInject("amqp.url") String url, @PropertyInject("amqp.ca.file") String caFile)
            throws GeneralSecurityException, IOException {
        URI uri = URI.create(url);
        ConnectionFactory rabbit = new ConnectionFactory();
        try {
            rabbit.setUri(uri);
        } catch (java.net.URISyntaxException error) {
            throw new IllegalArgumentException("AMQP_URL is no address of a broker.", error);
        }
        if ("amqps".equals(uri.getScheme())) {
            // For a URI alone the client would trust any certificate.
            rabbit.useSslProtocol(trusting(caFile));
            rabbit.enableHostnameVerification();
        }
        rabbit.setRequestedHeartbeat(HEARTBEAT_S);
        rabbit.setConnectionTimeout(CONNECT_MS);
        // Spring's listeners recover by themselves; two of them at it would disturb each other.
        rabbit.setAutomaticRecoveryEnabled(false);
        CachingConnectionFactory connection = new CachingConnectionFactory(rabbit);
        connection.setPublisherConfirmType(ConfirmType.SIMPLE);
        connection.setConnectionNameStrategy(factory -> "busbar-camel");
        return connection;
    }

    /**
     * What a route does not handle goes back to its queue, and from there to the dead letters when it was given out too
     * often; what the route refuses goes there at once. Without this, Spring would drop it.
     */
    @BindToRegistry("back-to-the-queue")
    public RetryOperationsInterceptor backToTheQueue() {
        return RetryInterceptorBuilder.stateless()
                .retryPolicy(new NeverRetryPolicy())
                .recoverer((message, cause) -> {
                    throw new ListenerExecutionFailedException("The route failed.", cause, message);
                })
                .build();
    }

    /** Without the broker nothing is handed over and nothing can be reported. */
    @BindToRegistry("broker-health-check")
    public AbstractHealthCheck health(CachingConnectionFactory broker) {
        return new AbstractHealthCheck("busbar", "broker") {
            @Override
            protected void doCall(HealthCheckResultBuilder builder, Map<String, Object> options) {
                try {
                    // The connection is kept: this opens one only where there is none.
                    broker.createConnection().close();
                    builder.up();
                } catch (AmqpException error) {
                    builder.down().message("The broker cannot be reached.").error(error);
                }
            }
        };
    }

    private static SSLContext trusting(String caFile) throws GeneralSecurityException, IOException {
        if (caFile.isBlank()) {
            return SSLContext.getDefault();
        }
        KeyStore trusted = KeyStore.getInstance(KeyStore.getDefaultType());
        trusted.load(null, null);
        try (InputStream pem = Files.newInputStream(Path.of(caFile))) {
            int number = 0;
            for (Certificate one : CertificateFactory.getInstance("X.509").generateCertificates(pem)) {
                trusted.setCertificateEntry("authority-" + number++, one);
            }
        }
        TrustManagerFactory managers = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        managers.init(trusted);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, managers.getTrustManagers(), null);
        return context;
    }
}
