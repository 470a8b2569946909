# What an image builder is: a line a fact, its name and its value between tabs. kiln reads it before the builder
# becomes an image, since nobody sees the disk afterwards.
$ErrorActionPreference = 'Stop'
$System = Get-CimInstance -ClassName Win32_OperatingSystem
"system`twindows`t$($System.Caption)"
"kernel`t$($System.Version)`t"
$Uninstall = 'Microsoft\Windows\CurrentVersion\Uninstall\*'
$Keys = "HKLM:\SOFTWARE\$Uninstall", "HKLM:\SOFTWARE\WOW6432Node\$Uninstall"
Get-ItemProperty -Path $Keys -ErrorAction SilentlyContinue |
    Where-Object -FilterScript { $_.PSObject.Properties.Name -contains 'DisplayName' -and $_.DisplayName } |
    Sort-Object -Property DisplayName -Unique |
    ForEach-Object -Process { "package`t$($_.DisplayName)`t$($_.DisplayVersion)" }
