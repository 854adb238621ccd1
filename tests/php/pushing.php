<?php
// Pushes to the client whose frame it handles, and answers afterwards.

$request = curl_init(getenv('PUSH'));
curl_setopt($request, CURLOPT_RETURNTRANSFER, true);
curl_setopt($request, CURLOPT_POSTFIELDS, http_build_query([
    'message' => 'pushed: ' . $_POST['message'],
    'client_id' => $_POST['client_id'],
    'type' => 'client',
]));
echo 'answered after: ', curl_exec($request);
