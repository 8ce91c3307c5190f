import java.nio.file.Path;
import java.time.Duration;
import java.util.Map;
import org.neo4j.configuration.GraphDatabaseSettings;
import org.neo4j.configuration.connectors.BoltConnector;
import org.neo4j.configuration.connectors.HttpConnector;
import org.neo4j.configuration.helpers.SocketAddress;
import org.neo4j.dbms.api.DatabaseManagementServiceBuilder;
import org.neo4j.io.ByteUnit;

/**
 * A Neo4j for tests: Bolt on loopback with authentication. Arguments: data directory, port. The password
 * is the first line of standard input, so that no process list shows it. Says READY when it answers,
 * and ends when standard input ends: a killed test leaves no server behind.
 */
public class TestServer {
    public static void main(String[] args) throws Exception {
        var in = new java.io.BufferedReader(new java.io.InputStreamReader(System.in));
        String password = in.readLine();
        Thread watch = new Thread(() -> {
            try {
                while (in.read() >= 0) {}
            } catch (java.io.IOException e) {
                // as good as the end
            }
            Runtime.getRuntime().halt(0);
        });
        watch.setDaemon(true);
        watch.start();

        var dbms = new DatabaseManagementServiceBuilder(Path.of(args[0]))
            .setConfig(GraphDatabaseSettings.auth_enabled, true)
            .setConfig(BoltConnector.enabled, true)
            .setConfig(BoltConnector.listen_address, new SocketAddress("127.0.0.1", Integer.parseInt(args[1])))
            .setConfig(HttpConnector.enabled, false)
            .setConfig(GraphDatabaseSettings.pagecache_memory, ByteUnit.mebiBytes(64))
            .setConfig(GraphDatabaseSettings.preallocate_logical_logs, false)
            .setConfig(GraphDatabaseSettings.auth_lock_time, Duration.ZERO)
            .build();
        try (var tx = dbms.database("system").beginTx()) {
            boolean fresh = tx.execute("SHOW USERS YIELD user, passwordChangeRequired WHERE user = 'neo4j' RETURN passwordChangeRequired AS fresh")
                .<Boolean>columnAs("fresh").next();
            if (fresh) {
                tx.execute("ALTER USER neo4j SET PASSWORD $password CHANGE NOT REQUIRED", Map.of("password", password)).close();
            }
            tx.commit();
        }
        System.out.println("READY");
        System.out.flush();
        watch.join();
    }
}
