<?php
// 100 fields of one name, 100 of their own.
for ($i = 0; $i < 100; $i++) {
    header("Set-Cookie: c$i=$i; Path=/", false);
    header("X-Field-$i: value $i");
}
header("X-Latin: caf\xe9");
