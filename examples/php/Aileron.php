<?php
// What a PHP application behind Aileron's plugin `application` needs, in one file without dependencies. PHP 8.1 or newer.
// Copy it into the application.
//
//   serve()        answers the gateway: who may connect, what to say to a message, what to do when somebody has gone
//   Gateway        pushes to clients, users, topics and everyone, and asks who is connected
//   GatewayWorker  the same with the verbs of Workerman's GatewayWorker
//   steer()        one header, for applications that do the rest themselves

declare(strict_types=1);

namespace Aileron;

/** The topic that all connections of a user are in: Opening::login() puts them there, Gateway::toUser() sends there. */
const USER_TOPIC = 'user.';

/**
 * Sends a header whose value is a list: steer('Publish', "room.$room"), steer('Subscribe', 'news', "room.$room").
 *
 * Each item stays one name whatever it has in it. So this cannot address everyone; header('Aileron-Publish: *') does.
 */
function steer(string $header, string ...$items): void
{
    header("Aileron-$header: " . implode(', ', array_map(rawurlencode(...), $items)), false);
}

/**
 * Answers the request of the gateway, and ends the script. The handlers, each of which may be left out:
 *
 *   open(Opening $client)                             a client wants to connect; Opening::refuse() says no
 *   message(Client $client, string $message)          a client said something
 *   timer(Client $client, string $name)               a timer has run out
 *   close(Client $client, int $code, string $reason)  a client has gone; of what it sends only publish() has an effect
 *   schedule(Client $nobody, string $name)            an interval of the configuration is over; likewise
 *
 * What a handler returns is its reply: a string as it is, anything else except null as JSON. What it prints goes to the
 * error log, and so does an exception; neither ever reaches a client.
 *
 * Only the gateway is answered, anybody else gets 403. Over FastCGI PHP knows it by itself; over HTTP it takes the
 * `[upstream] secret` (by default of the environment variable AILERON_SECRET).
 *
 * @param array<string, callable> $handlers
 */
function serve(array $handlers, ?string $secret = null): never
{
    ini_set('display_errors', '0');
    ini_set('log_errors', '1');
    if ($unknown = array_diff(array_keys($handlers), ['open', 'message', 'timer', 'close', 'schedule'])) {
        throw new \InvalidArgumentException('there is no handler `' . implode('`, `', $unknown) . '`');
    }
    if (!is_gateway($secret)) {
        http_response_code(403);
        exit("Only the gateway is answered here.\n");
    }
    ob_start();
    $client = Client::ofRequest();
    try {
        $type = field('type');
        $handler = $handlers[$type === 'server' ? 'message' : $type] ?? null;
        $returned = $handler === null ? null : match ($type) {
            'open' => $handler($client),
            'close' => $handler($client, (int) field('code'), field('reason')),
            'server' => $handler($client, field('message')),
            default => $handler($client, field('name')),
        };
        if ($returned !== null) {
            $client->reply(is_string($returned) ? $returned : json($returned));
        }
    } catch (\Throwable $error) {
        error_log((string) $error);
        $client = null;
    }
    $printed = (string) ob_get_clean();
    if ($printed !== '') {
        error_log('printed while the gateway was answered: ' . substr($printed, 0, 1000));
    }
    if ($client === null) {
        http_response_code(500);
    } else {
        $client->answer();
    }
    exit;
}

/** Whether the gateway asks. */
function is_gateway(?string $secret = null): bool
{
    // No header of a browser becomes a variable of this name.
    if (isset($_SERVER['AILERON_REQUEST'])) {
        return true;
    }
    $secret ??= getenv('AILERON_SECRET') ?: '';
    $proof = $_SERVER['HTTP_AILERON_SIGNATURE'] ?? '';
    $time = (int) substr($proof, 2);
    $right = "t=$time,v1=" . hash_hmac('sha256', "$time\n" . file_get_contents('php://input'), $secret);

    return $secret !== '' && abs(time() - $time) < 300 && hash_equals($right, $proof);
}

/** A field of the form; empty if it is missing or not a plain text. */
function field(string $name): string
{
    return is_string($_POST[$name] ?? null) ? $_POST[$name] : '';
}

function json(mixed $value): string
{
    return json_encode($value, JSON_THROW_ON_ERROR | JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES);
}

/** The client that the gateway asks about, and what is to be done for it. Nothing happens before the handler has ended. */
class Client
{
    /** @var list<string> */
    private array $headers = [];
    private ?string $body = null;
    private bool $isReply = false;

    /** @param array<string, string> $attributes what was set with attribute() */
    final protected function __construct(public readonly string $id, public readonly array $attributes)
    {
    }

    /** Of the form that PHP handles now. */
    public static function ofRequest(): static|Opening
    {
        $attributes = array_filter((array) ($_POST['attributes'] ?? []), is_string(...));

        return field('type') === 'open'
            ? new Opening(field('client_id'), $attributes)
            : new static(field('client_id'), $attributes);
    }

    /** Who it is, as login() has said. */
    public function user(): ?string
    {
        return $this->attributes['user'] ?? null;
    }

    /** Answers the client. */
    public function reply(string $message, bool $binary = false): void
    {
        $this->take($message, $binary);
        $this->isReply = true;
    }

    /**
     * Sends to the subscribers of topics, `*` for everyone, once the handler has ended. An answer has one body: whoever
     * wants to reply as well, or to publish different messages, uses a Gateway for the others.
     *
     * @param string|list<string> $topics
     * @param bool $toOthers whether this client is left out
     * @param list<string> $except ids of clients that are left out, too
     */
    public function publish(
        string|array $topics,
        string $message,
        bool $toOthers = false,
        array $except = [],
        bool $binary = false,
    ): void {
        $this->take($message, $binary);
        foreach ((array) $topics as $topic) {
            $this->headers[] = 'Aileron-Publish: ' . ($topic === '*' ? '*' : rawurlencode($topic));
        }
        foreach ([...($toOthers ? ['self'] : []), ...$except] as $id) {
            $this->headers[] = 'Aileron-Except: ' . rawurlencode($id);
        }
    }

    public function subscribe(string ...$topics): void
    {
        $this->list('Subscribe', $topics);
    }

    public function unsubscribe(string ...$topics): void
    {
        $this->list('Unsubscribe', $topics);
    }

    /** Keeps a value with the connection, for the next handlers; null removes it. */
    public function attribute(string $name, ?string $value): void
    {
        if (!preg_match('/^[A-Za-z0-9_.-]+$/D', $name)) {
            throw new \InvalidArgumentException("an attribute cannot be called `$name`: letters, digits, _ . and - only");
        }
        $this->headers[] = "Aileron-Attribute: $name=" . urlencode($value ?? '');
    }

    /** Says who it is: its presence goes by this name, and Gateway::toUser() finds it. */
    public function login(string $user): void
    {
        $this->attribute('user', $user);
        $this->subscribe(USER_TOPIC . $user);
    }

    /** Calls the timer handler once, after `500ms`, `30s`, `5m` or `1h`; null stops it. */
    public function timer(string $name, ?string $delay): void
    {
        if ($delay !== null && !preg_match('/^[0-9]+(ms|s|m|h)$/D', $delay)) {
            throw new \InvalidArgumentException("`$delay` is not a time; write 500ms, 30s, 5m or 1h");
        }
        $this->headers[] = 'Aileron-Timer: ' . rawurlencode($name) . '=' . $delay;
    }

    /** Closes the connection when everything else is done. Codes of applications are 4000 to 4999. */
    public function close(int $code = 1000, string $reason = ''): void
    {
        $this->headers[] = "Aileron-Close: $code " . preg_replace('/[\x00-\x1f\x7f]+/', ' ', $reason);
    }

    /** Sends what was asked for. Called by serve(). */
    public function answer(): void
    {
        foreach ($this->headers as $header) {
            header($header, false);
        }
        if ($this->body === null) {
            http_response_code(204);
        } else {
            header('Content-Type: text/plain; charset=utf-8');
            echo $this->body;
        }
    }

    protected function steer(string $header): void
    {
        $this->headers[] = $header;
    }

    /** @param list<string> $names */
    private function list(string $header, array $names): void
    {
        foreach ($names as $name) {
            $this->headers[] = "Aileron-$header: " . rawurlencode($name);
        }
    }

    private function take(string $message, bool $binary): void
    {
        if ($this->body !== null && ($this->isReply || $this->body !== $message)) {
            throw new \LogicException('an answer has one message; send the others with a Gateway');
        }
        $this->body = $message;
        if ($binary) {
            $this->headers[] = 'Aileron-Frame: binary';
        }
    }
}

/** A client that wants to connect. It is let in unless it is refused. */
final class Opening extends Client
{
    private int $status = 0;

    /** The path that it asks for. */
    public function path(): string
    {
        return field('path');
    }

    /** A parameter of its query. */
    public function query(string $name): ?string
    {
        parse_str(field('query'), $query);

        return is_string($query[$name] ?? null) ? $query[$name] : null;
    }

    /** @return list<string> the subprotocols that it offers */
    public function subprotocols(): array
    {
        return array_values(array_filter((array) ($_POST['subprotocols'] ?? []), is_string(...)));
    }

    /** Agrees on one of them. */
    public function choose(string $subprotocol): void
    {
        $this->steer("Aileron-Subprotocol: $subprotocol");
    }

    /** Does not let it in. */
    public function refuse(int $status = 403, string $reason = ''): void
    {
        if ($status < 300 || $status > 599) {
            throw new \InvalidArgumentException("$status does not refuse anybody; use 401, 403 or another from 300 to 599");
        }
        $this->status = $status;
        $this->reply($reason);
    }

    public function answer(): void
    {
        // Before anything is printed, since the status is sent with that.
        if ($this->status > 0) {
            http_response_code($this->status);
        }
        parent::answer();
    }
}

/** Pushes to the gateway and asks it. One connection for each request, so it is safe to keep. */
final class Gateway
{
    private readonly string $url;

    /**
     * @param ?string $url of the push listener: http://127.0.0.1:8081 or unix:/run/aileron/push.sock (by default that of
     *     the environment variable AILERON_URL, or the former)
     * @param ?string $token of `[push] token` (AILERON_TOKEN)
     * @param ?string $signatureKey of `[push] signature-key`, in place of the token (AILERON_SIGNATURE_KEY)
     * @param float $timeout in seconds, for the whole request
     */
    public function __construct(
        ?string $url = null,
        private readonly ?string $token = null,
        private readonly ?string $signatureKey = null,
        private readonly float $timeout = 5.0,
        private readonly string $path = '/send',
    ) {
        $this->url = $url ?? (getenv('AILERON_URL') ?: 'http://127.0.0.1:8081');
    }

    /**
     * @param string|list<string> $ids
     * @return list<Result> one for each client
     */
    public function toClient(string|array $ids, string $message, bool $binary = false): array
    {
        return $this->push([['client_id' => $ids] + self::message($message, $binary)]);
    }

    /**
     * @param string|list<string> $topics
     * @param list<string> $except ids of clients that are left out
     * @return list<Result> one for each topic
     */
    public function toTopic(string|array $topics, string $message, array $except = [], bool $binary = false): array
    {
        return $this->push([['topic' => $topics, 'except' => $except] + self::message($message, $binary)]);
    }

    /** To all connections of a user that login() has named. */
    public function toUser(string $user, string $message, array $except = [], bool $binary = false): Result
    {
        return $this->toTopic(USER_TOPIC . $user, $message, $except, $binary)[0];
    }

    public function toEveryone(string $message, array $except = [], bool $binary = false): Result
    {
        return $this->push([['everyone' => true, 'except' => $except] + self::message($message, $binary)])[0];
    }

    /** @param string|list<string> $ids @return list<Result> */
    public function close(string|array $ids, int $code = 1000, string $reason = ''): array
    {
        return $this->push([['client_id' => $ids, 'close' => ['code' => $code, 'reason' => $reason]]]);
    }

    /** @param string|list<string> $ids @param string|list<string> $topics @return list<Result> */
    public function subscribe(string|array $ids, string|array $topics): array
    {
        return $this->push([['client_id' => $ids, 'subscribe' => $topics]]);
    }

    /** @param string|list<string> $ids @param string|list<string> $topics @return list<Result> */
    public function unsubscribe(string|array $ids, string|array $topics): array
    {
        return $this->push([['client_id' => $ids, 'unsubscribe' => $topics]]);
    }

    /** @param array<string, ?string> $attributes null removes one */
    public function attributes(string $id, array $attributes): Result
    {
        return $this->push([['client_id' => $id, 'attributes' => (object) $attributes]])[0];
    }

    /** Whether a client is connected. */
    public function isConnected(string $id): bool
    {
        // To take away what it does not have changes nothing, and is answered.
        return $this->attributes($id, ['aileron.is-connected' => null])->result !== 'not-found';
    }

    /**
     * Pushes as plugins/application/README.md describes it, in order: all of it, or on a mistake nothing.
     *
     * @param list<array<string, mixed>> $items
     * @param ?string $once a key: with the same one it is done only once within five minutes, however often it is sent
     * @return list<Result>
     */
    public function push(array $items, ?string $once = null): array
    {
        $answer = $this->request('POST', $this->path, json($items), $once);

        return array_map(Result::of(...), $answer['results'] ?? throw new GatewayException('the answer has no results'));
    }

    /** @return list<array{id: string, attributes: array<string, string>, topics: list<string>}> with some more members */
    public function connections(?string $topic = null): array
    {
        $query = $topic === null ? '' : '?' . http_build_query(['topic' => $topic]);

        return $this->request('GET', "/connections$query")['connections'];
    }

    /** @return array{count: int, members: list<array{name: string, connections: int}>, clients: list<string>} */
    public function topic(string $name): array
    {
        return $this->request('GET', '/topics?' . http_build_query(['name' => $name]));
    }

    /** How many are subscribed to a topic. */
    public function count(string $topic): int
    {
        return $this->topic($topic)['count'];
    }

    private static function message(string $message, bool $binary): array
    {
        return $binary ? ['binary' => base64_encode($message)] : ['message' => $message];
    }

    /** @return array<string, mixed> */
    private function request(string $method, string $target, string $body = '', ?string $once = null): array
    {
        $headers = ['Host: localhost', 'Connection: close', 'Content-Length: ' . strlen($body)];
        $type = $body === '' ? '' : 'application/json';
        if ($type !== '') {
            $headers[] = "Content-Type: $type";
        }
        if ($once !== null) {
            $headers[] = 'Idempotency-Key: ' . ($once = rawurlencode($once));
        }
        $token = $this->token ?? getenv('AILERON_TOKEN');
        $key = $this->signatureKey ?? getenv('AILERON_SIGNATURE_KEY');
        if ($key) {
            $time = sprintf('%.6F', microtime(true));
            $signed = "$time\n$method\n$target\n$type\n$once\n$body";
            $headers[] = "Aileron-Signature: t=$time,v1=" . hash_hmac('sha256', $signed, $key);
        } elseif ($token) {
            $headers[] = "Authorization: Bearer $token";
        }
        $request = "$method $target HTTP/1.1\r\n" . implode("\r\n", $headers) . "\r\n\r\n$body";
        [$status, $answer] = $this->exchange($request);
        if ($status !== 200) {
            $error = json_decode($answer, true)['error'] ?? trim($answer);
            throw new GatewayException("the gateway answered $method $target with status $status: $error", $status);
        }

        return json_decode($answer, true, flags: JSON_THROW_ON_ERROR);
    }

    /** @return array{int, string} status and body */
    private function exchange(string $request): array
    {
        $address = str_starts_with($this->url, 'unix:')
            ? 'unix://' . substr($this->url, 5)
            : preg_replace(['~^http://~', '~^https://~', '~/$~'], ['tcp://', 'tls://', ''], $this->url);
        $end = microtime(true) + $this->timeout;
        $stream = @stream_socket_client($address, $number, $problem, $this->timeout);
        if ($stream === false) {
            throw new GatewayException("the gateway cannot be reached at $this->url: $problem");
        }
        stream_set_blocking($stream, true);
        for ($sent = 0; $sent < strlen($request); $sent += $written) {
            $written = @fwrite($stream, substr($request, $sent, 65536));
            if (!$written) {
                break; // the answer, if there is one, tells why
            }
        }
        $answer = '';
        while (!feof($stream) && ($left = $end - microtime(true)) > 0) {
            stream_set_timeout($stream, (int) $left, (int) (fmod($left, 1) * 1e6));
            $answer .= (string) fread($stream, 65536);
        }
        [$head, $body] = explode("\r\n\r\n", $answer, 2) + ['', ''];
        $length = preg_match('/^content-length: *(\d+)/mi', $head, $found) ? (int) $found[1] : null;
        if (!preg_match('~^HTTP/1\.1 (\d{3})~', $head, $status) || $length !== null && strlen($body) < $length) {
            throw new GatewayException("no answer of the gateway at $this->url within $this->timeout seconds");
        }

        return [(int) $status[1], $body];
    }
}

/** What became of a push for one target. */
final class Result
{
    private function __construct(
        /** The id, the topic, or `*`. */
        public readonly string $target,
        /** `sent`, `closed` or `done`; or `not-found`, `congested`, `too-large`, `refused`. */
        public readonly string $result,
        /** How many clients of a topic it went to. */
        public readonly int $recipients,
        /** How many of them had no room for it. */
        public readonly int $congested,
        public readonly ?string $cause,
        /** Where it is in the history of its topic, if that has one. */
        public readonly ?string $epoch,
        public readonly ?int $offset,
    ) {
    }

    /** @param array<string, mixed> $result */
    public static function of(array $result): self
    {
        return new self(
            $result['client_id'] ?? $result['topic'] ?? '*',
            $result['result'],
            $result['recipients'] ?? 0,
            $result['congested'] ?? 0,
            $result['cause'] ?? null,
            $result['epoch'] ?? null,
            $result['offset'] ?? null,
        );
    }

    public function isDone(): bool
    {
        return in_array($this->result, ['sent', 'closed', 'done'], true);
    }
}

/** The gateway cannot be reached, or does not do what it is asked. The code is the HTTP status, 0 without an answer. */
final class GatewayException extends \RuntimeException
{
}

/** The verbs of Workerman's GatewayWorker, for applications that move from there. */
final class GatewayWorker
{
    private const GROUP = 'group.';

    public function __construct(private readonly Gateway $gateway = new Gateway())
    {
    }

    public function sendToAll(string $message, array $exclude = []): void
    {
        $this->gateway->toEveryone($message, $exclude);
    }

    public function sendToClient(string $clientId, string $message): bool
    {
        return $this->gateway->toClient($clientId, $message)[0]->isDone();
    }

    public function closeClient(string $clientId, string $reason = ''): bool
    {
        return $this->gateway->close($clientId, 1000, $reason)[0]->isDone();
    }

    public function isOnline(string $clientId): bool
    {
        return $this->gateway->isConnected($clientId);
    }

    public function bindUid(string $clientId, string $uid): bool
    {
        $bound = ['client_id' => $clientId, 'attributes' => ['user' => $uid], 'subscribe' => USER_TOPIC . $uid];

        return $this->gateway->push([$bound])[0]->isDone();
    }

    public function unbindUid(string $clientId, string $uid): bool
    {
        $unbound = ['client_id' => $clientId, 'attributes' => ['user' => null], 'unsubscribe' => USER_TOPIC . $uid];

        return $this->gateway->push([$unbound])[0]->isDone();
    }

    public function sendToUid(string|array $uid, string $message): void
    {
        $this->gateway->toTopic(array_map(fn ($uid) => USER_TOPIC . $uid, (array) $uid), $message);
    }

    public function isUidOnline(string $uid): bool
    {
        return $this->gateway->count(USER_TOPIC . $uid) > 0;
    }

    /** @return list<string> */
    public function getClientIdByUid(string $uid): array
    {
        return $this->gateway->topic(USER_TOPIC . $uid)['clients'];
    }

    public function joinGroup(string $clientId, string $group): bool
    {
        return $this->gateway->subscribe($clientId, self::GROUP . $group)[0]->isDone();
    }

    public function leaveGroup(string $clientId, string $group): bool
    {
        return $this->gateway->unsubscribe($clientId, self::GROUP . $group)[0]->isDone();
    }

    public function sendToGroup(string|array $group, string $message, array $exclude = []): void
    {
        $this->gateway->toTopic(array_map(fn ($group) => self::GROUP . $group, (array) $group), $message, $exclude);
    }

    public function getClientCountByGroup(string $group): int
    {
        return $this->gateway->count(self::GROUP . $group);
    }

    /** @return list<string> */
    public function getClientIdListByGroup(string $group): array
    {
        return $this->gateway->topic(self::GROUP . $group)['clients'];
    }

    public function getAllClientCount(): int
    {
        return count($this->gateway->connections());
    }

    /** @return list<string> */
    public function getAllClientIdList(): array
    {
        return array_column($this->gateway->connections(), 'id');
    }
}
