<?php
// Ends without a look at the body; `finish` ends the answer before the script.
echo 'early';
if (isset($_GET['finish'])) {
    fastcgi_finish_request();
}
exit(1);
