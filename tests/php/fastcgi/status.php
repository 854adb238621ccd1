<?php
// The status that the query names; `location` makes PHP choose it.
if ($_GET['status'] === 'location') {
    header('Location: /elsewhere');
} else {
    http_response_code((int) $_GET['status']);
    echo 'status ', $_GET['status'];
}
