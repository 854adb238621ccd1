<?php
// The business logic of the example, run by PHP-FPM. Two kinds of form come in, told apart by their `type`:
//
//   type=server   from the gateway: a WebSocket client said `message`. What this prints goes back to that client.
//   type=client   from anybody over HTTP: push `message` to the WebSocket client `client_id`, by the gateway's /send.
//
// It trusts everybody, to stay short. A real application asks in the second case who is pushing, and to whom.

declare(strict_types=1);

header('Content-Type: text/plain; charset=utf-8');

/** A field of the form; empty when it is missing or not a plain text. */
function field(string $name): string
{
    return is_string($_POST[$name] ?? null) ? $_POST[$name] : '';
}

function answer(string $message, string $clientId): string
{
    $words = match ($message) {
        'name' => 'Orville',
        default => 'default',
    };

    return "$words to $clientId";
}

/** Hands a message to the gateway; gives its status and what it says. */
function push(string $message, string $clientId): array
{
    $request = curl_init(getenv('AILERON_PUSH') ?: 'http://127.0.0.1:8081/send');
    curl_setopt_array($request, [
        // http_build_query() escapes, so no message can break out of its field.
        CURLOPT_POSTFIELDS => http_build_query([
            'message' => $message,
            'client_id' => $clientId,
            'type' => 'client',
        ]),
        CURLOPT_RETURNTRANSFER => true,
        CURLOPT_TIMEOUT => 5,
    ]);
    $body = curl_exec($request);

    return $body === false
        ? [502, 'the gateway cannot be reached: ' . curl_error($request)]
        : [curl_getinfo($request, CURLINFO_RESPONSE_CODE), $body];
}

if (field('type') === '' || field('client_id') === '' || !isset($_POST['message'])) {
    echo 'something wrong';
} elseif (field('type') === 'client') {
    [$status, $body] = push(field('message'), field('client_id'));
    http_response_code($status);
    echo $body;
} else {
    echo answer(field('message'), field('client_id'));
}
