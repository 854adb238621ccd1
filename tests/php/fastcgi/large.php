<?php
// An answer of so many bytes.
echo str_repeat('x', (int) $_GET['size']);
