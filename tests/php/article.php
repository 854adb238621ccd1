<?php
// The application of the tests: what the gateway's first users have. It answers by name, and pushes by curl, the command.

if (empty($_POST['type']) || empty($_POST['client_id']) || !isset($_POST['message'])) {
    echo 'something wrong';
} elseif ($_POST['type'] === 'client') {
    $form = sprintf('message=%s&type=client&client_id=%s', urlencode($_POST['message']), urlencode($_POST['client_id']));
    passthru('curl -s -d ' . escapeshellarg($form) . ' ' . escapeshellarg(getenv('PUSH')));
} else {
    echo $_POST['message'] === 'name' ? 'aileron' : 'default', ' to ', $_POST['client_id'];
}
