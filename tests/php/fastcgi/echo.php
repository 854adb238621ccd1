<?php
// Sends the body back while it still arrives: PHP leaves the body of a PUT to the script.
header('Content-Type: application/octet-stream');
ini_set('output_buffering', '0');
$body = fopen('php://input', 'rb');
while (($piece = fread($body, 65536)) !== '' && $piece !== false) {
    echo $piece;
    flush();
}
